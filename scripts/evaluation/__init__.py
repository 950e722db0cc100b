"""What ``cytolibra evaluate`` is made of."""
