"""Keep OKX Market Maker Protection settings exactly as a reviewed YAML file says."""

__version__ = "0.1.0"
