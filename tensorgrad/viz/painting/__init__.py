"""Numbers put into a picture: colours and widths, strips and legends, notes in boxes."""
