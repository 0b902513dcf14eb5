"""Tasks, one folder each: head, data, loss, metrics, plots and card section."""
