"""The map page: places of a city as points, with search, a legend that filters, and every view of the place chosen."""

from m3gal_cli.inspect.page.write import PAGE_PLACES, Page, write_page

__all__ = ["PAGE_PLACES", "Page", "write_page"]
