"""Operating system helpers: files that appear whole, the cache folder, signals, standard streams."""
