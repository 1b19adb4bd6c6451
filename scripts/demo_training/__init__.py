"""How the networks of the demo are trained: a film and rendered scenes in, a checkpoint in upstream's layout out."""
