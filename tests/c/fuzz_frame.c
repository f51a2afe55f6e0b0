/* ipc/frame.h against any bytes whatever.

   What the reader accepts, the writer must have been able to write: all that was read is
   written again, and the bytes must be the same.  AddressSanitizer sees every step beyond
   the input.  (The first byte of an input is not part of the frame: it chooses between
   values and a table of buffers.)

       make fuzz FUZZ_SECONDS=60    mutate the inputs in corpus/, and what is found on the
                                    way: an input is kept if it takes the reader along a
                                    branch that none took before
       fuzz_frame FILE ...          try these only (inputs that were printed, say)
       FUZZ_CORPUS_OUT=folder       write the inputs that are kept there

   With clang, -DCF_LIBFUZZER -fsanitize=fuzzer makes it a libFuzzer program. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "ipc/frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size);

static void (*print_input)(void);

static void
require(bool ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "%s\n", what);
        if (print_input != NULL) {
            print_input();
        }
        abort();
    }
}

/* The frame that was written is, from its beginning, what was read. */
static void
require_equal(const cf_frame *f, const uint8_t *data, size_t size, const char *what)
{
    const void *part;
    uint64_t part_size, at = 0;
    for (cf_frame_cursor c = {0, 0}; cf_frame_next(f, &c, &part, &part_size);
         at += part_size)
    {
        require(part_size <= size - at && memcmp(data + at, part, part_size) == 0, what);
    }
    require(at == size, what);
}

static cf_status
write_value(cf_frame *f, const cf_value *v)
{
    switch (v->kind) {
    case CF_VALUE_NONE: case CF_VALUE_TRUE: case CF_VALUE_FALSE:
        return cf_frame_constant(f, v->kind);
    case CF_VALUE_INT:
        return cf_frame_int(f, v->as.integer);
    case CF_VALUE_FLOAT:
        return cf_frame_float(f, v->as.real);
    case CF_VALUE_SAME:
        return cf_frame_same(f, v->as.same);
    case CF_VALUE_TUPLE: case CF_VALUE_LIST: case CF_VALUE_DICT:
        return cf_frame_container(f, v->kind, v->as.count);
    default:
        require(cf_value_is_text(v->kind), "a value of an unknown kind");
        return cf_frame_lasting_text(f, v->kind, v->kept, v->as.text.data,
                                     v->as.text.length);
    }
}

/* The next value; what reads short ints inline must see the same. */
static cf_status
read_next(cf_reader *reader, cf_value *value)
{
    cf_reader inlined = *reader;
    int64_t number = 0;
    bool taken = cf_reader_int(&inlined, &number);
    require(taken || inlined.at == reader->at, "it went on without an int");
    bool room = reader->end - reader->at >= 5;
    cf_status status = cf_reader_next(reader, value);
    bool is_short = status == CF_OK && value->kind == CF_VALUE_INT
                    && value->as.integer == (int32_t)value->as.integer;
    require(taken == (is_short && room), "an int to one and not to the other");
    require(!taken || (value->as.integer == number && inlined.at == reader->at),
            "two different ints");
    return status;
}

static void
try_values(const uint8_t *data, size_t size)
{
    char given[72];
    cf_frame f;
    cf_reader reader;
    cf_value value;
    cf_frame_init(&f, given, sizeof(given));
    cf_reader_init(&reader, data, size);
    bool all = true;
    uint64_t kept = 0;
    while (cf_reader_end(&reader) != CF_OK) {
        if (read_next(&reader, &value) != CF_OK) {
            all = false;
            break;
        }
        require(reader.at <= reader.end, "the reader went beyond the frame");
        uint64_t left = (uint64_t)(reader.end - reader.at);
        require(value.kind != CF_VALUE_SAME || value.as.same < kept, "no text");
        require(!value.kept || cf_value_is_text(value.kind), "a number for no text");
        require(!cf_value_is_container(value.kind) || value.as.count <= left, "no items");
        require(write_value(&f, &value) == CF_OK, "no memory");
        if (cf_value_is_text(value.kind)) {
            kept += value.kept;
            unsigned unit = cf_value_unit(value.kind);
            require(value.as.text.bytes == value.as.text.length * unit, "wrong size");
            /* As a string is read: into memory of its own. */
            void *copy = malloc(value.as.text.bytes + 1);
            require(copy != NULL, "no memory");
            memcpy(copy, value.as.text.data, value.as.text.bytes);
            (void)cf_text_fits(value.kind, copy, value.as.text.length);
            free(copy);
        }
    }
    if (all) {
        require_equal(&f, data, size, "no writer writes this");
    }
    cf_frame_clear(&f);
}

static void
try_table(const uint8_t *data, size_t size)
{
    uint32_t count;
    if (size < CF_TABLE_END
        || cf_table_count(data + size - CF_TABLE_END, size, &count) != CF_OK)
    {
        return;
    }
    require(cf_table_size(count) <= size, "a table larger than its frame");
    const uint8_t *table = data + size - cf_table_size(count);
    bool all = true;
    cf_frame f;
    cf_frame_init(&f, NULL, 0);
    for (uint32_t i = 0; i < count; i++) {
        cf_place place;
        bool readonly;
        all = cf_table_entry(table, i, &place, &readonly) == CF_OK && all;
        require(cf_frame_buffer(&f, &place, readonly) == CF_OK, "no memory");
    }
    require(cf_frame_table_end(&f, count) == CF_OK, "no memory");
    if (all) {
        require_equal(&f, table, cf_table_size(count), "no writer writes this table");
    }
    cf_frame_clear(&f);
}

int
LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
    if (size == 0) {
        return 0;
    }
    /* Memory of exactly the frame's size. */
    uint8_t *frame = malloc(size - 1 == 0 ? 1 : size - 1);
    require(frame != NULL, "no memory");
    memcpy(frame, input + 1, size - 1);
    if (input[0] & 1) {
        try_table(frame, size - 1);
    }
    else {
        try_values(frame, size - 1);
    }
    free(frame);
    return 0;
}

#ifndef CF_LIBFUZZER

/* ---- coverage: frame.c is compiled with -fsanitize-coverage=trace-pc ---- */

#define EDGES 65536
static uint8_t seen[EDGES];
static uint32_t previous;
static bool fresh;

void __sanitizer_cov_trace_pc(void);

void
__sanitizer_cov_trace_pc(void)
{
    uintptr_t here = (uintptr_t)__builtin_return_address(0);
    uint32_t place = (uint32_t)(here ^ here >> 16) & (EDGES - 1);
    uint32_t edge = (place ^ previous) & (EDGES - 1);
    fresh |= !seen[edge];
    seen[edge] = 1;
    previous = place >> 1;
}

/* ---- inputs ---- */

#define INPUT_MAX 6000
#define INPUTS_MAX 4096

typedef struct {
    uint8_t *data;
    size_t size;
} input;

static input inputs[INPUTS_MAX];
static uint32_t input_count;
static uint8_t current[INPUT_MAX];
static size_t current_size;

/* Whatever ends the program says with which input. */
static void
print_current(void)
{
    fprintf(stderr, "the input (%zu bytes):\n", current_size);
    for (size_t i = 0; i < current_size; i++) {
        fprintf(stderr, "%02x", current[i]);
    }
    fprintf(stderr, "\n");
}

void __sanitizer_set_death_callback(void (*callback)(void));

static bool
try_current(void)
{
    fresh = false;
    previous = 0;
    LLVMFuzzerTestOneInput(current, current_size);
    return fresh;
}

static void
keep_current(void)
{
    if (input_count == INPUTS_MAX) {
        return;
    }
    input *in = &inputs[input_count++];
    in->size = current_size;
    in->data = malloc(current_size + 1);
    require(in->data != NULL, "no memory");
    memcpy(in->data, current, current_size);
    const char *folder = getenv("FUZZ_CORPUS_OUT");
    if (folder != NULL) {
        char name[4096];
        snprintf(name, sizeof(name), "%s/frame-%04u", folder, input_count);
        FILE *file = fopen(name, "wb");
        require(file != NULL, name);
        fwrite(current, 1, current_size, file);
        fclose(file);
    }
}

static void
read_file(const char *name)
{
    FILE *file = fopen(name, "rb");
    require(file != NULL, name);
    current_size = fread(current, 1, sizeof(current), file);
    fclose(file);
}

static void
read_folder(const char *folder)
{
    DIR *dir = opendir(folder);
    require(dir != NULL, folder);
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        char name[4096];
        if (entry->d_name[0] == '.') {
            continue;
        }
        snprintf(name, sizeof(name), "%s/%s", folder, entry->d_name);
        read_file(name);
        try_current();
        keep_current();
    }
    closedir(dir);
}

/* ---- mutations ---- */

static uint64_t state;

static uint32_t
below(uint32_t end)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)((state >> 32) * end >> 32);
}

static void
put(size_t at, const void *bytes, size_t size)
{
    if (at + size <= current_size) {
        memcpy(current + at, bytes, size);
    }
}

static void
mutate_once(void)
{
    static const uint64_t numbers[] = {
        0, 1, 127, 128, 254, 255, 256, 4095, 4096, 32768, 65535, 1u << 31, UINT32_MAX,
        1ull << 32, 1ull << 61, 1ull << 63, UINT64_MAX, UINT64_MAX - 8};
    size_t at = current_size == 0 ? 0 : below((uint32_t)current_size);
    size_t rest = current_size - at;
    switch (below(9)) {
    case 0:
        current[at] ^= (uint8_t)(1u << below(8));
        break;
    case 1:
        current[at] = (uint8_t)below(256);
        break;
    case 2:
        /* A tag, or the length of something short. */
        current[at] = (uint8_t)(below(CF_VALUE_KINDS) | (below(4) == 0 ? 0x80 : 0));
        break;
    case 3:
        put(at, &numbers[below(sizeof(numbers) / 8)], (size_t)1 << below(4));
        break;
    case 4:                                     /* cut out */
        if (rest > 1) {
            size_t size = 1 + below((uint32_t)rest - 1);
            memmove(current + at, current + at + size, rest - size);
            current_size -= size;
        }
        break;
    case 5:                                     /* a part twice */
        if (rest > 0) {
            size_t size = 1 + below(rest < 64 ? (uint32_t)rest : 64);
            if (current_size + size <= INPUT_MAX) {
                memmove(current + at + size, current + at, rest);
                current_size += size;
            }
        }
        break;
    case 6:                                     /* a part of another input */
        {
            const input *in = &inputs[below(input_count)];
            if (in->size > 0) {
                size_t from = below((uint32_t)in->size), size = in->size - from;
                size = size < INPUT_MAX - at ? size : INPUT_MAX - at;
                memcpy(current + at, in->data + from, size);
                current_size = at + size > current_size ? at + size : current_size;
            }
        }
        break;
    case 7:
        current_size = at;
        break;
    default:                                    /* more at the end */
        for (uint32_t more = 1 + below(12); more > 0 && current_size < INPUT_MAX; more--) {
            current[current_size++] = (uint8_t)below(below(2) ? 256 : CF_VALUE_KINDS);
        }
    }
}

int
main(int argc, char **argv)
{
    print_input = print_current;
    __sanitizer_set_death_callback(print_current);
    if (argc > 1) {
        for (int i = 1; i < argc; i++) {
            read_file(argv[i]);
            try_current();
        }
        return 0;
    }
    const char *text = getenv("FUZZ_SECONDS");
    time_t end = time(NULL) + (text == NULL ? 60 : atoi(text));
    text = getenv("FUZZ_SEED");
    state = text != NULL ? strtoull(text, NULL, 10)
                         : (uint64_t)time(NULL) << 20 | (uint64_t)getpid();
    state = state == 0 ? 1 : state;
    printf("seed %llu\n", (unsigned long long)state);
    read_folder("corpus");
    uint32_t seeds = input_count;
    uint64_t tried = 0;
    require(seeds > 0, "corpus/ is empty");
    while ((tried & 0xfff) != 0 || time(NULL) < end) {
        const input *in = &inputs[below(input_count)];
        current_size = in->size;
        memcpy(current, in->data, in->size);
        for (uint32_t n = 1 + below(6); n > 0; n--) {
            mutate_once();
        }
        if (try_current()) {
            keep_current();
        }
        tried++;
    }
    printf("%llu inputs tried from %u seeds, %u were new, none did harm\n",
           (unsigned long long)tried, seeds, input_count - seeds);
    return 0;
}

#endif
