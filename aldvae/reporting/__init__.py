"""What people look at: figures, tables in a terminal, the HTML report; drawn from results, never from models."""
