/* Runs an exported program with TVM's runtime and nothing else: PROGRAM.so LIST FOLDER.
   LIST has a line for each argument: file, scalars, code and bits of its data type (DLPack).
   Output i is written to FOLDER/i.out. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct { int32_t type; uint32_t pad; union { int64_t i; void* p; const char* s; } v; } Any;
typedef struct {
  void* data; struct { int32_t type, id; } device; int32_t ndim;
  struct { uint8_t code, bits; uint16_t lanes; } dtype;
  int64_t *shape, *strides; uint64_t offset;
} Tensor;
typedef struct Managed { Tensor t; void* context; void (*deleter)(struct Managed*); } Managed;
typedef struct { const char* data; size_t size; } Bytes;

int TVMFFIFunctionGetGlobal(const Bytes*, void**);
int TVMFFIFunctionCall(void*, Any*, int32_t, Any*);
int TVMFFITensorFromDLPack(Managed*, int32_t, int32_t, void**);
int TVMFFITensorToDLPack(void*, Managed**);
void TVMFFIErrorMoveFromRaised(void**);

enum { INTEGER = 1, BOOLEAN = 2, TEXT = 8, TENSOR = 70, ARRAY = 71, MOST = 4096 };

static void ok(int failed, const char* what) {
  if (!failed) return;
  void* error;
  TVMFFIErrorMoveFromRaised(&error);
  Bytes* said = (Bytes*)((char*)error + 24); /* kind and message, after the object's header */
  fprintf(stderr, "%s: %.*s: %.*s\n", what, (int)said[0].size, said[0].data, (int)said[1].size,
          said[1].data);
  exit(1);
}

static Any any(int type, int64_t value) {
  Any a = {type, 0, {value}};
  return a;
}

static Any text(const char* s) {
  Any a = {TEXT, 0, {0}};
  a.v.s = s;
  return a;
}

static Any global(const char* name, Any* args, int n) {
  Bytes bytes = {name, strlen(name)};
  void* function;
  Any result = any(0, 0);
  ok(TVMFFIFunctionGetGlobal(&bytes, &function), name);
  ok(TVMFFIFunctionCall(function, args, n, &result), name);
  return result;
}

static Any call(Any module, const char* name, Any* args, int n) {
  Any get[3] = {module, text(name), any(BOOLEAN, 1)}, result = any(0, 0);
  ok(TVMFFIFunctionCall(global("ffi.ModuleGetFunction", get, 3).v.p, args, n, &result), name);
  return result;
}

static int arguments(const char* list, Any* args) {
  char file[MOST];
  int n = 0, code, bits;
  long long elems;
  FILE* lines = fopen(list, "r");
  while (fscanf(lines, "%4095s %lld %d %d", file, &elems, &code, &bits) == 4) {
    Managed* m = calloc(1, sizeof *m);
    size_t bytes = elems * bits / 8;
    m->t.shape = malloc(sizeof *m->t.shape);
    *m->t.shape = elems;
    posix_memalign(&m->t.data, 64, bytes + 64);
    FILE* f = fopen(file, "rb");
    if (!f || fread(m->t.data, 1, bytes, f) != bytes) exit(2);
    fclose(f);
    m->t.device.type = m->t.ndim = m->t.dtype.lanes = 1;
    m->t.dtype.code = code;
    m->t.dtype.bits = bits;
    args[n].type = TENSOR;
    ok(TVMFFITensorFromDLPack(m, 64, 1, &args[n++].v.p), file);
  }
  return n;
}

int main(int argc, char** argv) {
  static Any args[MOST];
  Any path = text(argv[1]), library = global("ffi.ModuleLoadFromFile", &path, 1);
  Any machine = call(library, "vm_load_executable", 0, 0), start[6];
  for (int i = 0; i < 6; i++) start[i] = any(INTEGER, "\1\0\2\1\0\2"[i]); /* CPU 0, pooled, twice */
  call(machine, "vm_initialization", start, 6);
  Any out = call(machine, "main", args, arguments(argv[2], args));
  int count = out.type == ARRAY ? (int)global("ffi.ArraySize", &out, 1).v.i : 1;
  for (int i = 0; i < count; i++) {
    Any get[2] = {out, any(INTEGER, i)};
    Any item = out.type == ARRAY ? global("ffi.ArrayGetItem", get, 2) : out;
    Managed* m;
    char file[MOST];
    ok(TVMFFITensorToDLPack(item.v.p, &m), "output");
    snprintf(file, sizeof file, "%s/%d.out", argv[3], i);
    FILE* f = fopen(file, "wb");
    fwrite((char*)m->t.data + m->t.offset, 4, *m->t.shape, f);
    fclose(f);
  }
  return 0;
}
