"""Times cvmask beside other programs that run the same graph on the same pixels."""
