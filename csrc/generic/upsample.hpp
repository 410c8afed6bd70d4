// Labels of a leaf from class scores, over the registers of a set.
#pragma once

namespace fcnkit {

// V works on registers of kLanes floats, which are kLanes / kLeaf rows of a leaf. V::kBlocks blocks
// are computed at a time, so that weights are loaded once for all of them.
template <class V, class Base>
struct UpsampleLoops : Base {
    static void label_leaf(const Leaf& leaf, const std::uint64_t* contenders,
                           std::uint8_t* labels) {
        std::uint64_t all = 0;
        for (std::size_t k = 0; k < leaf.count; ++k) {
            const std::size_t c = leaf.classes[k];
            for (std::uint64_t news = contenders[c] & ~all; news != 0; news &= news - 1) {
                clear(leaf, lowest(news));
            }
            all |= contenders[c];
        }
        bool joined = false;  // whether any tile's weights lie in two strips
        for (std::size_t t = 0; t < leaf.tiles; ++t) {
            joined = joined || leaf.spots[t].columns < kLeaf;
        }
        for (std::size_t k = 0; k < leaf.count; ++k) {
            const std::size_t c = leaf.classes[k];
            if (joined) {
                add_class<true>(leaf, c, contenders[c]);
            } else {
                add_class<false>(leaf, c, contenders[c]);
            }
        }
        for (; all != 0; all &= all - 1) {
            const std::size_t block = lowest(all);
            const float* best = leaf.best + block * 2 * kArea + kArea;
            std::uint8_t* to = labels + block * kArea;
            for (std::size_t k = 0; k < kArea; ++k) {
                to[k] = static_cast<std::uint8_t>(static_cast<int>(best[k]));
            }
        }
    }

   private:
    using Floats = typename V::Floats;
    static constexpr std::size_t kArea = kLeaf * kLeaf;
    static constexpr std::size_t kVectors = 4;  // registers of a block
    static constexpr std::size_t kStep = kVectors * V::kLanes;  // pixels of a block at a time

    static std::size_t lowest(std::uint64_t bits) {
#if defined(__GNUC__) || defined(__clang__)
        return static_cast<std::size_t>(__builtin_ctzll(bits));
#else
        std::size_t at = 0;
        for (; (bits & 1) == 0; bits >>= 1) {
            ++at;
        }
        return at;
#endif
    }

    static void clear(const Leaf& leaf, std::size_t block) {
        float* best = leaf.best + block * 2 * kArea;
        for (std::size_t k = 0; k < kArea; ++k) {
            best[k] = kLowest;
            best[kArea + k] = 0;
        }
    }

    template <bool kJoined>
    static void add_class(const Leaf& leaf, std::size_t c, std::uint64_t blocks) {
        while (blocks != 0) {
            std::size_t some[V::kBlocks], n = 0;
            for (; n < V::kBlocks && blocks != 0; blocks &= blocks - 1) {
                some[n++] = lowest(blocks);
            }
            add_blocks<V::kBlocks, kJoined>(leaf, c, some, n);
        }
    }

    // n of at most kCount blocks.
    template <std::size_t kCount, bool kJoined>
    static void add_blocks(const Leaf& leaf, std::size_t c, const std::size_t* blocks,
                           std::size_t n) {
        if constexpr (kCount > 1) {
            if (n < kCount) {
                add_blocks<kCount - 1, kJoined>(leaf, c, blocks, n);
                return;
            }
        }
        for (std::size_t from = 0; from < leaf.rows * kLeaf; from += kStep) {
            Floats sums[kCount][kVectors];
            add_tile<kCount, kJoined>(leaf, 0, c, from, blocks, sums);
            for (std::size_t t = 1; t < leaf.tiles; ++t) {
                Floats more[kCount][kVectors];
                add_tile<kCount, kJoined>(leaf, t, c, from, blocks, more);
                FCNKIT_UNROLL
                for (std::size_t b = 0; b < kCount; ++b) {
                    FCNKIT_UNROLL
                    for (std::size_t v = 0; v < kVectors; ++v) {
                        sums[b][v] = V::add(sums[b][v], more[b][v]);
                    }
                }
            }
            FCNKIT_UNROLL
            for (std::size_t b = 0; b < kCount; ++b) {
                keep_larger(sums[b], c, leaf.best + blocks[b] * 2 * kArea + from);
            }
        }
    }

    // The logits of class c that tile t gives pixels of kCount blocks.
    template <std::size_t kCount, bool kJoined>
    static void add_tile(const Leaf& leaf, std::size_t t, std::size_t c, std::size_t from,
                         const std::size_t* blocks, Floats (&sums)[kCount][kVectors]) {
        const float* features[kCount];
        FCNKIT_UNROLL
        for (std::size_t b = 0; b < kCount; ++b) {
            features[b] = leaf.features +
                          (t * leaf.tile_features + c * leaf.first_tap) * kBatch + blocks[b];
            FCNKIT_UNROLL
            for (std::size_t v = 0; v < kVectors; ++v) {
                sums[b][v] = V::broadcast(leaf.bias[c]);
            }
        }
        const float* weights = leaf.spots[t].weights + c * leaf.class_stride + from;
        const float* behind = weights + leaf.strip_stride - kLeaf;
        const typename V::Columns own(leaf.spots[t].columns);
        for (std::size_t tap = 0; tap < leaf.taps; ++tap) {
            Floats feature[kCount];
            FCNKIT_UNROLL
            for (std::size_t b = 0; b < kCount; ++b) {
                feature[b] = V::broadcast(features[b][tap * kBatch]);
            }
            FCNKIT_UNROLL
            for (std::size_t v = 0; v < kVectors; ++v) {
                Floats weight = V::load(weights + v * V::kLanes);
                if constexpr (kJoined) {
                    weight = own.join(weight, behind + v * V::kLanes);
                }
                FCNKIT_UNROLL
                for (std::size_t b = 0; b < kCount; ++b) {
                    sums[b][v] = V::multiply_add(weight, feature[b], sums[b][v]);
                }
            }
            weights += leaf.tap_stride;
            behind += leaf.tap_stride;
        }
    }

    static void keep_larger(const Floats (&logits)[kVectors], std::size_t c, float* best) {
        const Floats label = V::broadcast(static_cast<float>(c));
        FCNKIT_UNROLL
        for (std::size_t v = 0; v < kVectors; ++v) {
            float* logit = best + v * V::kLanes;
            const Floats before = V::load(logit), index = V::load(logit + kArea);
            const typename V::Mask larger = V::greater(logits[v], before);
            V::store(logit, V::select(larger, logits[v], before));
            V::store(logit + kArea, V::select(larger, label, index));
        }
    }
};

}  // namespace fcnkit
