"""PyTorch checkpoints to Flax parameter trees and back, without torch and without running a pickle."""
