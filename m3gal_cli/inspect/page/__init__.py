"""The map page: the places of a city as points, with a search, a legend that filters, and all views of a place."""

from m3gal_cli.inspect.page.write import write_page

__all__ = ["write_page"]
