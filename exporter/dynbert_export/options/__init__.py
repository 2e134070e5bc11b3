"""What an export can be told: closed vocabularies, named profiles, the one config, recipes."""
