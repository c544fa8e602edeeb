"""How all that is drawn looks, whoever writes it: colours, letters and their widths, shapes."""
