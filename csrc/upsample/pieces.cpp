#include "upsample/pieces.hpp"

#include <algorithm>

namespace fcnkit {

Division::Division(std::size_t offset, std::size_t length)
    : length_(length),
      first_(std::min(kLeaf - offset % kLeaf, length)),
      leaves_(1 + (length - first_ + kLeaf - 1) / kLeaf),
      halvings_(0) {
    while (std::size_t{1} << halvings_ < leaves_) {
        ++halvings_;
    }
}

void Axis::cut(const std::vector<std::size_t>& starts, std::size_t first, std::size_t last,
               std::size_t side, std::size_t stride, std::size_t begin, std::size_t end) {
    pieces.clear();
    sights.clear();
    kinds.clear();
    cuts.clear();
    cuts.push_back(begin);
    cuts.push_back(end);
    const auto add = [&](std::size_t at) {
        if (begin < at && at < end) {
            cuts.push_back(at);
        }
    };
    for (std::size_t tile = first; tile < last; ++tile) {
        const std::size_t start = starts[tile], behind = start + side;
        add(start);
        add(behind);
        // The first boundary inside: where cell 1 begins.
        for (std::size_t at = start + stride / 2; at < behind && at < end; at += stride) {
            add(at);
        }
    }
    std::sort(cuts.begin(), cuts.end());
    cuts.erase(std::unique(cuts.begin(), cuts.end()), cuts.end());
    // Tiles ascend and have one side, so those that see a piece are neighbors.
    std::size_t from = first;
    for (std::size_t k = 0; k + 1 < cuts.size(); ++k) {
        while (starts[from] + side <= cuts[k]) {
            ++from;
        }
        std::size_t to = from;
        while (to < last && starts[to] <= cuts[k]) {
            ++to;
        }
        add_piece(starts, from, to, stride, cuts[k], cuts[k + 1]);
    }
}

void Axis::add_piece(const std::vector<std::size_t>& starts, std::size_t first, std::size_t last,
                     std::size_t stride, std::size_t begin, std::size_t end) {
    const auto signed_of = [](std::size_t value) { return static_cast<std::ptrdiff_t>(value); };
    Piece piece{begin, end, 0, 0, sights.size(), last - first, 0};
    std::ptrdiff_t stop = 0;
    for (std::size_t tile = first; tile < last; ++tile) {
        const std::size_t cell = (begin - starts[tile] + stride / 2) / stride;
        const std::ptrdiff_t corner =
            signed_of(starts[tile] + cell * stride) - signed_of(stride / 2);
        const std::ptrdiff_t behind = corner + signed_of(stride);
        piece.span = tile == first ? corner : std::max(piece.span, corner);
        stop = tile == first ? behind : std::min(stop, behind);
        sights.push_back({tile, cell, 0});
    }
    piece.length = static_cast<std::size_t>(stop - piece.span);
    for (std::size_t k = piece.first; k < sights.size(); ++k) {
        Sight& sight = sights[k];
        const std::ptrdiff_t corner =
            signed_of(starts[sight.tile] + sight.cell * stride) - signed_of(stride / 2);
        sight.offset = static_cast<std::size_t>(piece.span - corner);
    }
    piece.kind = kind_of(piece);
    pieces.push_back(piece);
}

std::size_t Axis::kind_of(const Piece& piece) {
    const Sight* mine = sights_of(piece);
    for (std::size_t kind = 0; kind < kinds.size(); ++kind) {
        const Piece& other = pieces[kinds[kind]];
        const auto same = [](const Sight& a, const Sight& b) { return a.offset == b.offset; };
        if (other.length == piece.length && other.count == piece.count &&
            std::equal(mine, mine + piece.count, sights_of(other), same)) {
            return kind;
        }
    }
    kinds.push_back(pieces.size());
    return kinds.size() - 1;
}

}  // namespace fcnkit
