// Which table is in use: the best one the machine runs, chosen once, or the named one.
#pragma once

#include <string>
#include <vector>

#include "kernel_set.hpp"

namespace fcnkit {

// Names of the tables this machine can run, best first; the last is always "scalar".
std::vector<std::string> supported_tables();

// The table in use. On first call reads FCNKIT_FORCE_ISA; throws std::invalid_argument if that
// names no table this machine can run.
const Table& active_table();

// For tests and benchmarks: use the named table from now on. Throws as active_table does.
void select_table(const std::string& name);

// The tables of the sets, each at the end of SET/set.cpp. A compiler makes those of its processor
// family; see target.hpp.
extern const Table avx2_table;
extern const Table avx512_table;
extern const Table neon_table;

}  // namespace fcnkit
