"""What the operating system gives: files that appear whole, the cache folder, signals, streams."""
