"""From files of texts to the arrays that graphs are fed with."""
