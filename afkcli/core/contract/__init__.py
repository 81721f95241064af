"""What everybody speaks: the types, errors and JSON forms that the other rooms and all plugins share."""
