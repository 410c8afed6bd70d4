// Covering an image with tiles: cutting them out and putting their logits together again.
// Sizes are trusted; bindings.cpp checks them.
#pragma once

#include <vector>

#include "kernels.hpp"

namespace fcnkit {

// Tile (i, j) has its corner at (tops[i], lefts[j]); tiles are counted row by row. Corners ascend,
// lie inside the image, and the tiles cover it.
struct Plan {
    std::size_t height, width;
    std::size_t tile_height, tile_width;
    std::vector<std::size_t> tops, lefts;

    std::size_t tiles() const { return tops.size() * lefts.size(); }
};

// out: (tiles, tile_height, tile_width, 3). What lies outside the image is reflected.
void cut_tiles(const std::uint8_t* image, const Plan& plan, std::uint8_t* out,
               std::size_t threads);

// out: (tiles, 3, tile_height, tile_width); T is float, or std::uint16_t for the bits of halves.
template <class T>
void gather_tiles(const std::uint8_t* image, const Plan& plan, const Normalize& normalize, T* out,
                  std::size_t threads);

// logits: (tiles, classes, tile_height, tile_width); labels: (height, width).
template <class T>
void stitch_tiles(const T* logits, std::size_t classes, const Plan& plan, std::uint8_t* labels,
                  std::size_t threads);

// Adds tile (i, j) to the band, (classes, tile_height, width) sums in which image row y lives at
// y % tile_height. logits: (classes, tile_height, tile_width).
template <class T>
void accumulate_tile(const T* logits, std::size_t classes, const Plan& plan, std::size_t i,
                     std::size_t j, float* band, std::size_t threads);

// Labels of the image rows [first, first + rows) of a band.
void finish_rows(const float* band, std::size_t classes, const Plan& plan, std::size_t first,
                 std::size_t rows, std::uint8_t* labels, std::size_t threads);

}  // namespace fcnkit
