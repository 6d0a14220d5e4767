"""What the pytest plugin is made of; usable from other test programs too."""
