/* Calls kp_run once on memory whose edges a sanitizer watches. A program: driver CALL_FILE
   The file is made of 8-byte words: inputs, outputs, words of the tail; the bytes of each tensor;
   the tail (axes, scalars, threads); then the contents of the inputs, each right after the other.
   Exit codes: 0, or 3 when kp_run says that it failed. A sanitizer ends the process with its own. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern int kp_run(const void* args);

enum { BAD_FILE = 2, ENTRY_FAILED = 3, POISON = 0xcd };

static void read_all(FILE* file, void* into, size_t bytes) {
  if (bytes > 0 && fread(into, 1, bytes, file) != bytes) exit(BAD_FILE);
}

int main(int count, char** words) {
  FILE* file = count == 2 ? fopen(words[1], "rb") : NULL;
  if (!file) return BAD_FILE;
  uint64_t head[3];
  read_all(file, head, sizeof head);
  const uint64_t inputs = head[0], tensors = head[0] + head[1], tail = head[2];
  uint64_t* sizes = calloc(tensors, sizeof *sizes);
  uint64_t* block = calloc(tensors + tail, sizeof *block);
  if (!sizes || !block) return BAD_FILE;
  read_all(file, sizes, tensors * sizeof *sizes);
  read_all(file, block + tensors, tail * sizeof *block);
  for (uint64_t i = 0; i < tensors; ++i) {
    /* Of exactly the tensor's size: the next byte is out of bounds. */
    void* memory = malloc(sizes[i]);
    if (!memory && sizes[i] > 0) return BAD_FILE;
    if (i < inputs) read_all(file, memory, sizes[i]);
    else if (sizes[i] > 0) memset(memory, POISON, sizes[i]);
    block[i] = (uint64_t)(uintptr_t)memory;
  }
  fclose(file);
  const int result = kp_run(block);
  for (uint64_t i = 0; i < tensors; ++i) free((void*)(uintptr_t)block[i]);
  free(block);
  free(sizes);
  return result == 0 ? 0 : ENTRY_FAILED;
}
