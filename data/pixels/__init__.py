"""From what files store to RGB of 8 bits on white: one way for screening, training and figures."""
