/* Loads one shared object and calls its kp_run for every slot it is told to: a subject's process.
 *
 * Words: the socket, the setup file, the shared object. The setup is an array of 64-bit words that
 * native.py writes and this file reads; nothing in it is secret, and nothing here decides anything:
 * the supervisor owns clock, inputs' contents and verdict. What can be told from outside is only
 * that 8 bytes came back (the token's number), or fewer (a code of the failure), or none.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <linux/filter.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FILTER_MODE 1
#define FILTER_ALL_THREADS 1
#define PACKET_BYTES 65536

enum failure { LOAD_FAILED = 1, ENTRY_FAILED = 2 };
enum { OUR_FAULT = 70 };

struct token {
  uint64_t sequence;
  uint32_t arena, first_slot, count, reserved;
};

struct arena {
  int64_t slots;
  uint64_t* words; /* [slots][words_per_slot] */
};

typedef int (*entry_t)(const void*);

static void die(const char* what) {
  fprintf(stderr, "host: %s: %s\n", what, strerror(errno));
  exit(OUR_FAULT);
}

static void* allocate(size_t count, size_t size) {
  void* memory = calloc(count ? count : 1, size);
  if (memory == NULL) die("memory");
  return memory;
}

static ssize_t receive(int channel, void* into, size_t size) {
  ssize_t got;
  do got = read(channel, into, size);
  while (got < 0 && errno == EINTR);
  return got;
}

static void answer(int channel, const void* bytes, size_t size) {
  ssize_t sent;
  do sent = write(channel, bytes, size);
  while (sent < 0 && errno == EINTR);
}

static void fail(int channel, enum failure code) {
  unsigned char byte = (unsigned char)code;
  fflush(NULL);
  answer(channel, &byte, 1);
  _exit(1);
}

static const int64_t* read_setup(int fd) {
  struct stat status;
  if (fstat(fd, &status) != 0) die("setup");
  void* words = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
  if (words == MAP_FAILED) die("setup");
  close(fd);
  return words;
}

/* Map one segment between two pages that nobody may touch. */
static char* map_segment(const int64_t* segment) {
  int fd = (int)segment[0], protection = segment[1] ? PROT_READ | PROT_WRITE : PROT_READ;
  size_t length = (size_t)segment[3], page = (size_t)sysconf(_SC_PAGESIZE);
  char* room = mmap(NULL, length + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (room == MAP_FAILED) die("address space");
  void* place = mmap(room + page, length, protection, MAP_SHARED | MAP_FIXED | MAP_POPULATE, fd,
                     (off_t)segment[2]);
  if (place == MAP_FAILED) die("arena");
  return place;
}

/* Setup: segments, arenas, tensors, tail words; then 4 words a segment; then, an arena, its slots,
 * its tail words, and 2 words (segment, offset) a tensor of each slot. */
static struct arena* build(const int64_t* words) {
  int64_t segments = words[0], arenas = words[1], tensors = words[2], tail = words[3];
  char** bases = allocate((size_t)segments, sizeof *bases);
  const int64_t* next = words + 4;
  for (int64_t s = 0; s < segments; ++s, next += 4) bases[s] = map_segment(next);
  for (int64_t s = 0; s < segments; ++s) close((int)words[4 + 4 * s]);
  struct arena* built = allocate((size_t)arenas, sizeof *built);
  for (int64_t a = 0; a < arenas; ++a) {
    const int64_t* ends = next + 1;
    built[a].slots = next[0];
    built[a].words = allocate((size_t)(next[0] * (tensors + tail)), sizeof(uint64_t));
    uint64_t* word = built[a].words;
    next = ends + tail;
    for (int64_t slot = 0; slot < built[a].slots; ++slot) {
      for (int64_t t = 0; t < tensors; ++t, next += 2)
        *word++ = (uint64_t)(uintptr_t)(bases[next[0]] + next[1]);
      memcpy(word, ends, (size_t)tail * sizeof *word);
      word += tail;
    }
  }
  free(bases);
  return built;
}

static void confine(const char* program, size_t size) {
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) die("no_new_privs");
  if (size == 0) return;
  struct sock_fprog filter = {.len = (unsigned short)(size / sizeof(struct sock_filter)),
                              .filter = (struct sock_filter*)program};
  if (syscall(SYS_seccomp, FILTER_MODE, FILTER_ALL_THREADS, &filter) != 0) die("seccomp");
}

static entry_t load(int channel, const char* path) {
  void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  void* entry = library == NULL ? NULL : dlsym(library, "kp_run");
  if (entry == NULL) {
    fprintf(stderr, "%s\n", dlerror());
    fail(channel, LOAD_FAILED);
  }
  entry_t run;
  memcpy(&run, &entry, sizeof run);
  return run;
}

static void serve(int channel, entry_t run, const struct arena* arenas, size_t words_per_slot) {
  struct token token;
  while (receive(channel, &token, sizeof token) == (ssize_t)sizeof token) {
    const uint64_t* words = arenas[token.arena].words + token.first_slot * words_per_slot;
    for (uint32_t done = 0; done < token.count; ++done, words += words_per_slot) {
      int code = run(words);
      if (code != 0) {
        fprintf(stderr, "kp_run returned %d\n", code);
        fail(channel, ENTRY_FAILED);
      }
    }
    answer(channel, &token.sequence, sizeof token.sequence);
  }
}

int main(int count, char** values) {
  static char packet[PACKET_BYTES];
  if (count != 4) return OUR_FAULT;
  int channel = atoi(values[1]);
  const int64_t* setup = read_setup(atoi(values[2]));
  const struct arena* arenas = build(setup);
  size_t words_per_slot = (size_t)(setup[2] + setup[3]);
  answer(channel, "\0\0\0\0\0\0\0", 8);
  ssize_t got = receive(channel, packet, sizeof packet);
  if (got < 8) return OUR_FAULT;
  confine(packet + 8, (size_t)got - 8);
  entry_t run = load(channel, values[3]);
  answer(channel, packet, 8);
  serve(channel, run, arenas, words_per_slot);
  return 0;
}
