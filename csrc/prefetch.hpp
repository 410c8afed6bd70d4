// Bringing logits into the cache before they are read.
#pragma once

#include <algorithm>

#include "kernels.hpp"
#include "target.hpp"

namespace fcnkit {

// Software prefetch for blocks of kBlock pixels. Argmax reads one stream per class and tile, more
// than the hardware prefetcher tracks, and memory answers best to long stretches. While one stretch
// of pixels is processed, the next stretch is prefetched plane by plane. Each class prefetches as
// many lines as it uses, only in another order. For rows of tiles the next stretch is the tile's
// next row. Otherwise it is what comes next on the same row.
template <class T, std::size_t kBlock>
class Prefetch {
   public:
    Prefetch(const Views<T>& views, std::size_t n) : views_(views) {
        const std::size_t plane_bytes = views.count * views.classes * sizeof(T);
        if (views.pitch != 0 && views.pitch * plane_bytes <= kRowBytes) {
            const std::size_t blocks = (n + kBlock - 1) / kBlock;
            lines_ = std::min(views.pitch * sizeof(T) / 64 + 1, blocks * kLines);
            stretch_ = blocks * kBlock;
            lead_ = views.pitch;
        } else {
            // Shorter where the logits may be in the third-level cache, which answers sooner.
            lines_ = plane_bytes * views.class_stride < (std::size_t{24} << 20) ? 16 : 32;
            stretch_ = lines_ * 64 / sizeof(T);
            lead_ = stretch_;
        }
    }

    void begin_block(std::size_t x) {
        if (x >= restart_) {
            offset_ = (restart_ + lead_) * sizeof(T);
            restart_ += stretch_;
            line_ = 0;
            view_ = 0;
            plane_ = 0;
        }
    }

    FCNKIT_INLINE void fetch() {
        // One line after the other, not all at once: prefetches that come too fast are dropped.
        for (std::size_t k = 0; k < kLines * views_.count && plane_ < views_.classes; ++k) {
            const char* first = reinterpret_cast<const char*>(views_.tiles[view_]);
            FCNKIT_PREFETCH(first + offset_ + 64 * line_);
            if (++line_ < lines_) {
                continue;
            }
            line_ = 0;
            if (++view_ == views_.count) {
                view_ = 0;
                ++plane_;
                offset_ += views_.class_stride * sizeof(T);
            }
        }
    }

   private:
    static constexpr std::size_t kLines = (kBlock * sizeof(T) + 63) / 64;
    static constexpr std::size_t kRowBytes = std::size_t{512} << 10;  // half a second-level cache
    const Views<T>& views_;
    std::size_t lines_;    // of 64 bytes, per plane and stretch
    std::size_t stretch_;  // pixels processed while the next stretch is fetched
    std::size_t lead_;     // pixels from a stretch to the next
    std::size_t restart_ = 0;  // pixel at which to begin the next stretch
    // What to fetch next: a line of a stretch of a plane of a view, stretches one by one.
    std::size_t offset_ = 0, line_ = 0, view_ = 0, plane_ = 0;
};

}  // namespace fcnkit
