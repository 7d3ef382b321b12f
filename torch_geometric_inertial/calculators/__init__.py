from .ase import GeoMFormerCalculator

__all__ = ['GeoMFormerCalculator']
