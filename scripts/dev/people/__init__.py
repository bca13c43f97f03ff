"""The bundled people model: its network, data, training, evaluation and export."""
