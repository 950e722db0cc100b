"""What ``cytolibra screen`` is made of, and the commands that are like it."""
