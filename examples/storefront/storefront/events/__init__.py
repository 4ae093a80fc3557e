"""What has happened, told to whoever it concerns: after the commit, and although processes die in between."""
