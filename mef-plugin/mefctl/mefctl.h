/* mefctl: one program, a table of subcommands (main.c). A subcommand lives in its own file, declares its entry here and
 * takes one line in the table. argv[0] is the subcommand's name; its own usage goes to stdout for --help and to stderr
 * with MEFCTL_USAGE otherwise. No key is ever an argument. */
#pragma once

/* Exit codes. */
enum { MEFCTL_OK = 0, MEFCTL_FAILED = 1, MEFCTL_USAGE = 2 };

int mefctl_init(int argc, char **argv);
int mefctl_zigbee(int argc, char **argv);
