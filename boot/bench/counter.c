/*
 * A plugin of QEMU's TCG that counts what the emulated machine executes: entries to guests (VMRUN), of which
 * each ends in one exit, and instructions. Both hypervisors are counted by the same rule, without their help.
 *
 * Whenever the machine runs the program /bench/tsc (boot/src/bench/boot.rs: RDTSC at a known address), a line goes to
 * the file: "MARK entries instructions". With profile=on, lines "ADDRESS instructions SIZE" follow, for each block of
 * code that ran since the mark before.
 *
 * Debian does not ship qemu-plugin.h; what is declared here is version 1 of that interface, as QEMU 7.2 documents it
 * (docs/devel/tcg-plugins.rst).
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct qemu_plugin_tb;
struct qemu_plugin_insn;
struct qemu_info;
typedef uint64_t plugin_id;
enum { ADD_U64 = 0 };
enum { NO_REGISTERS = 0 };

void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id id, void (*call)(plugin_id, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *tb, int op, void *counter, uint64_t by);
void qemu_plugin_register_vcpu_insn_exec_inline(struct qemu_plugin_insn *insn, int op, void *counter, uint64_t by);
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *insn, void (*call)(unsigned int, void *),
					    int registers, void *data);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t index);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *tb);
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *insn);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *insn);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *insn);

__attribute__((visibility("default"))) int qemu_plugin_version = 1;

/* Where /bench/tsc has its RDTSC. */
static const uint64_t mark_address = 0x400078;
static const uint8_t rdtsc[] = { 0x0f, 0x31 };
static const uint8_t vmrun[] = { 0x0f, 0x01, 0xd8 };

static uint64_t entries;
static uint64_t instructions;
static FILE *out;
static bool profile;

/* Blocks by address and length: QEMU translates the same code again and again. */
struct block {
	struct block *next;
	uint64_t address;
	uint64_t size;
	uint64_t runs;
	uint64_t told;
};
enum { BUCKETS = 1 << 18 };
static struct block *blocks[BUCKETS];

static struct block *block(uint64_t address, uint64_t size)
{
	struct block **bucket = &blocks[(address ^ (address >> 18) ^ (size << 10)) % BUCKETS];
	for (struct block *one = *bucket; one; one = one->next)
		if (one->address == address && one->size == size)
			return one;
	struct block *new = calloc(1, sizeof *new);
	if (!new)
		abort();
	*new = (struct block){ .next = *bucket, .address = address, .size = size };
	return *bucket = new;
}

static void tell_blocks(void)
{
	for (size_t at = 0; at < BUCKETS; at++)
		for (struct block *one = blocks[at]; one; one = one->next) {
			if (one->runs != one->told)
				fprintf(out, "%" PRIx64 " %" PRIu64 " %" PRIu64 "\n", one->address,
					(one->runs - one->told) * one->size, one->size);
			one->told = one->runs;
		}
}

static void mark(unsigned int cpu, void *data)
{
	(void)cpu;
	(void)data;
	fprintf(out, "MARK %" PRIu64 " %" PRIu64 "\n", entries, instructions);
	if (profile)
		tell_blocks();
	fflush(out);
}

static bool is(const struct qemu_plugin_insn *insn, const uint8_t *bytes, size_t size)
{
	return qemu_plugin_insn_size(insn) == size && memcmp(qemu_plugin_insn_data(insn), bytes, size) == 0;
}

static void translated(plugin_id id, struct qemu_plugin_tb *tb)
{
	size_t size = qemu_plugin_tb_n_insns(tb);

	(void)id;
	qemu_plugin_register_vcpu_tb_exec_inline(tb, ADD_U64, &instructions, size);
	if (profile)
		qemu_plugin_register_vcpu_tb_exec_inline(tb, ADD_U64,
							 &block(qemu_plugin_tb_vaddr(tb), size)->runs, 1);
	for (size_t at = 0; at < size; at++) {
		struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, at);
		if (is(insn, vmrun, sizeof vmrun))
			qemu_plugin_register_vcpu_insn_exec_inline(insn, ADD_U64, &entries, 1);
		if (qemu_plugin_insn_vaddr(insn) == mark_address && is(insn, rdtsc, sizeof rdtsc))
			qemu_plugin_register_vcpu_insn_exec_cb(insn, mark, NO_REGISTERS, NULL);
	}
}

__attribute__((visibility("default"))) int qemu_plugin_install(plugin_id id, const struct qemu_info *info, int argc,
							       char **argv)
{
	(void)info;
	for (int at = 0; at < argc; at++) {
		if (strncmp(argv[at], "out=", 4) == 0)
			out = fopen(argv[at] + 4, "w");
		else if (strcmp(argv[at], "profile=on") == 0)
			profile = true;
	}
	if (!out)
		return -1;
	qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
	return 0;
}
