"""Renderings of plans, problems and results: values in, text or plain documents out."""
