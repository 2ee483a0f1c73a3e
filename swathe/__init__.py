"""The vocabulary of swathe: frozen values that every other room of the house speaks in.

Pure: nothing below this package may import Ray, torch, GDAL or a web framework.
"""
