"""What an expression can be read as: a value, a kernel, a matrix, an equation, another precision."""
