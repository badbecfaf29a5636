"""What is hard: training dynamics, distances in a frozen encoder's space, and how far either can be trusted."""
