"""Running graphs over data, and how alike their answers are; what follows from that is for the gates."""
