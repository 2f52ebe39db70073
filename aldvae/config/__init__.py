"""What a run is: checked settings, where they come from, and how the run is executed."""
