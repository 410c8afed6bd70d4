// An axis of an image cut where any tile begins, ends or goes from one score to the next.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels.hpp"

namespace fcnkit {

// What a tile shows of a piece. Cell q of a tile with corner t is the pixels
// [t + q * stride - stride / 2, + stride): they see the scores q - 1 and q. The first and the last
// cell of a tile lie half outside of it.
struct Sight {
    std::size_t tile;    // its place along the axis
    std::size_t cell;    // 0 .. scores of the tile along the axis
    std::size_t offset;  // of the first pixel of the span in the cell
};

// A stretch of an axis in which every tile that sees it stays in one cell. The span is the pixels
// around it for which that would hold if no tile and no image ended. It is what gets divided, so
// that pieces of equal kind are divided alike. Its first pixel may lie outside the image.
struct Piece {
    std::size_t begin, end;
    std::ptrdiff_t span;
    std::size_t length;  // of the span
    std::size_t first, count;  // its sights, in the order of tiles
    std::size_t kind;  // pieces of the same kind have the same length, count and offsets
};

// Where a stretch of a cell is divided: into leaves of kLeaf pixels as they lie in the strips of
// weights, shorter ones at its ends, and into parts of 1, 2, 4 ... leaves. Some parts are empty where
// the number of leaves is not a power of two.
class Division {
   public:
    // `length` pixels from pixel `offset` of a cell on.
    Division(std::size_t offset, std::size_t length);

    std::size_t halvings() const { return halvings_; }
    // Part `at` of those after `level` halvings begins at that pixel of the stretch.
    std::size_t begin(std::size_t level, std::size_t at) const {
        const std::size_t leaf = leaves_ * at >> level;
        return leaf == 0 ? 0 : leaf == leaves_ ? length_ : first_ + (leaf - 1) * kLeaf;
    }

   private:
    std::size_t length_, first_, leaves_, halvings_;
};

struct Axis {
    std::vector<Piece> pieces;
    std::vector<Sight> sights;
    std::vector<std::size_t> kinds;  // a piece of each kind, by kind
    std::vector<std::size_t> cuts;   // scratch

    // Describes the pixels [begin, end). Tiles are those with index in [first, last); they cover
    // these pixels. Allocates only where it has never held as much.
    void cut(const std::vector<std::size_t>& starts, std::size_t first, std::size_t last,
             std::size_t side, std::size_t stride, std::size_t begin, std::size_t end);

    const Sight* sights_of(const Piece& piece) const { return sights.data() + piece.first; }

   private:
    void add_piece(const std::vector<std::size_t>& starts, std::size_t first, std::size_t last,
                   std::size_t stride, std::size_t begin, std::size_t end);
    std::size_t kind_of(const Piece& piece);
};

}  // namespace fcnkit
