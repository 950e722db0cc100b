"""The reading room: what people decide about the findings of a folder of reports."""
