/* A QEMU plugin that counts instructions, and says the count when the guest asks.
 *
 * The guest asks by close(-number), with a number from 1000 on: a line
 * "count NUMBER INSTRUCTIONS" goes to stderr. Declarations are those of QEMU's plugin
 * API, version 1: https://www.qemu.org/docs/master/devel/tcg-plugins.html.
 *
 *   gcc -shared -fPIC -O2 -o count.so instructions.c
 */
#include <inttypes.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define EXPORT __attribute__((visibility("default")))
#define CLOSE_OF_ARM64 57

typedef uint64_t plugin_id;
struct qemu_plugin_tb;
typedef void (*translated)(plugin_id, struct qemu_plugin_tb *);
typedef void (*called)(plugin_id, unsigned int, int64_t, uint64_t, uint64_t, uint64_t,
                       uint64_t, uint64_t, uint64_t, uint64_t, uint64_t);

void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id, translated);
void qemu_plugin_register_vcpu_syscall_cb(plugin_id, called);
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *, int, void *,
                                              uint64_t);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);

EXPORT int qemu_plugin_version = 1;
static uint64_t count;

static void on_block(plugin_id id, struct qemu_plugin_tb *block) {
  (void)id;
  qemu_plugin_register_vcpu_tb_exec_inline(block, 0, &count,
                                           qemu_plugin_tb_n_insns(block));
}

static void on_syscall(plugin_id id, unsigned int cpu, int64_t number, uint64_t first,
                       uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f,
                       uint64_t g, uint64_t h) {
  (void)id, (void)cpu, (void)b, (void)c, (void)d, (void)e, (void)f, (void)g, (void)h;
  int32_t asked = -(int32_t)first;
  if (number == CLOSE_OF_ARM64 && asked >= 1000) {
    fprintf(stderr, "count %" PRId32 " %" PRIu64 "\n", asked, count);
  }
}

EXPORT int qemu_plugin_install(plugin_id id, const void *info, int argc, char **argv) {
  (void)info, (void)argc, (void)argv;
  qemu_plugin_register_vcpu_tb_trans_cb(id, on_block);
  qemu_plugin_register_vcpu_syscall_cb(id, on_syscall);
  return 0;
}
