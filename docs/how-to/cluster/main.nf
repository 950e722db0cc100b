#!/usr/bin/env nextflow
// The slides in parts, a task each; by hand, or included by a workflow of your own:
//
//   nextflow run main.nf --slides /mnt/slides --out /mnt/reports --parts 8

nextflow.enable.dsl = 2

params.slides = 'slides'
params.out = 'reports'
params.parts = 4
params.precision = 'int8'  // the same on all machines, whatever each would choose; bf16 for GPUs

// Slides and reports are named by paths that every machine sees alike: tasks have folders of their
// own, and copies of 100,000 slides in them are not wanted.
process SCREEN {
    tag "${part} of ${parts}"
    cpus 4
    memory '8 GB'
    time '12h'
    // 1: some slides failed, which cytolibra retry is for, and the other parts go on; 2: the command
    // is wrong. With workflow.failOnIgnore = true in nextflow.config the workflow fails of a 1, too.
    errorStrategy { task.exitStatus == 1 ? 'ignore' : task.exitStatus == 2 ? 'finish' : 'retry' }
    maxRetries 3

    input:
    val part
    val parts
    val slides
    val out

    output:
    val part

    script:
    """
    cytolibra screen '${slides}' --out '${out}' --shard ${part}/${parts} --precision ${params.precision} --set runtime.threads=${task.cpus}
    """
}

workflow {
    parts = Channel.of(1..params.parts)
    slides = file(params.slides).toAbsolutePath().toString()
    out = file(params.out).toAbsolutePath().toString()
    SCREEN(parts, params.parts, slides, out)
}
