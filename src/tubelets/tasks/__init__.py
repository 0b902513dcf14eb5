"""One folder a task: head, data, loss, metrics, plots and card section belong together."""
