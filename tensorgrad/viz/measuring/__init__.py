"""What a drawing shows in numbers: of values, of gradients, of what flows where, of a comparison."""
