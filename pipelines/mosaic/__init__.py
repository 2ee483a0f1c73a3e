"""From scenes to the pixels a model gets: output grid, warping, masks, composites, and the reader of them all."""
