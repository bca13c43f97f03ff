"""The bundled shapes model: its network, targets, training, export and evaluation."""
