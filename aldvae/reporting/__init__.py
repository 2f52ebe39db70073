"""What people look at: figures, a table in the terminal, the HTML report; made from results, never from models."""
