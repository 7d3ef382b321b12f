from .ase import InertialCalculator

__all__ = ['InertialCalculator']
