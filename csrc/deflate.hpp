// Rows of labels as the compressed data of a PNG: a zlib stream (RFC 1950 and 1951).
//
// Label maps repeat in two ways: a row is mostly the row above it, and the rest are runs of one
// label. Only these two places are searched, and the Huffman codes are the same for all maps, so
// that the time is little more than that of reading the rows. The bytes depend on the labels alone,
// not on the processor, and not on how the rows are divided into calls.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace fcnkit {

class LabelDeflate {
   public:
    // width: labels per row, 1 or more. Each row also gets the byte that names PNG's filter "none".
    explicit LabelDeflate(std::size_t width);

    std::size_t width() const { return width_; }

    // Appends what is known of the stream after the next rows to out.
    void add(const std::uint8_t* rows, std::size_t count, std::string& out);

    // Appends the rest of the stream. Nothing can be added after that.
    void end(std::string& out);

   private:
    struct Code;
    struct Codes;

    void begin(std::string& out);
    void add_row(const std::uint8_t* row, const std::uint8_t* above, std::string& out);
    void put(Code code, std::string& out);
    void literal(std::uint8_t value, std::string& out);
    void match(std::size_t length, Code distance, std::string& out);
    void sum(const std::uint8_t* row);

    static const Codes& codes();

    std::size_t width_;
    std::vector<std::uint8_t> above_;  // the last row of the last call
    bool sees_above_;                  // whether deflate reaches that far back
    std::size_t up_symbol_ = 1;        // of the distance to the row above
    std::uint32_t up_bits_ = 0;
    unsigned up_count_ = 0;
    bool begun_ = false;
    std::uint64_t bits_ = 0;  // those that are no whole byte yet, the first one lowest
    unsigned held_ = 0;
    std::uint32_t low_ = 1, high_ = 0;  // the halves of the Adler-32 checksum
};

}  // namespace fcnkit
