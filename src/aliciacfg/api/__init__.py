"""What is asked and answered, as Structs; the same over every transport."""
