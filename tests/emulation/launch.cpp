// A kernel with the function that launches it. Macros: those of its launch, SOURCE (its file) and ENTRY.

#include SOURCE

extern "C" bool launch_on_cpu(void* const* pointers, const unsigned* grid, unsigned block) {
  return launch(ENTRY, pointers, {grid[0], grid[1], grid[2]}, block);
}
