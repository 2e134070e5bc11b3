"""What an export shows to people."""
