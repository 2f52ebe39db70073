"""What every folder may use: errors, files, random streams, devices."""
