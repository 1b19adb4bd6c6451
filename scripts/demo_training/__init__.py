"""The training of the demo's networks, from a film and rendered scenes to a checkpoint in upstream's layout."""
